"""Who is one artist, and who shares a group."""

from hf_musiclf.data.artists import artist_groups, normalised_artist
from hf_musiclf.data.gtzan import read_index


def test_spellings_of_one_artist_are_one():
    for first, second in [
        ("The Beatles", "Beatles"),
        ("AC/DC", "AC-DC"),
        ("Rage Against the Machine", "RAGE AGAINST THE MACHINE"),
        ("Earth, Wind & Fire", "Earth Wind and Fire"),
    ]:
        assert normalised_artist(first) == normalised_artist(second)
    assert normalised_artist("The The") == "the"
    assert normalised_artist("Prince") != normalised_artist("Prince Buster")


def test_who_shares_a_credit_shares_a_group():
    groups = artist_groups(["Bob Marley", "Lauryn Hill and Bob Marley", "Lauryn Hill", "Peter Tosh", None])
    assert groups[0] == groups[1] == groups[2] is not None
    assert groups[3] not in (groups[0], None) and groups[4] is None
    # Through C, who has a credit with both, A and B too.
    assert len(set(artist_groups(["A", "B", "C", "A & C", "C, B"]))) == 1
    # Nobody called KC or Herb stands alone: the names are of one band each.
    assert len(set(artist_groups(["KC and The Sunshine Band", "Peaches and Herb"]))) == 2


def test_groups_do_not_depend_on_the_order_of_tracks():
    artists = [facts["artist"] for facts in read_index().values()]
    assert artist_groups(artists[::-1])[::-1] == artist_groups(artists)
