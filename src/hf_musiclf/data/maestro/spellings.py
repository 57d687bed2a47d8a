"""Titles of MAESTRO v3's table that no rule can tell: abbreviations, translations, and pieces without their book."""

# Normalised composer and title -> the title it stands for. The titles are those of maestro-v3.0.0.csv; which prelude
# stands in which book is told by Debussy's own first edition (Durand, 1910 and 1913).
SPELLINGS = {
    ("cesar franck", "prel chor fug"): "Prélude, Choral et Fugue",
    ("claude debussy", "bruyeres"): "Preludes, Book II, No. 5, Bruyères",
    ("claude debussy", "feux d artifice"): "Preludes, Book II, No. 12, Feux d'artifice",
    ("claude debussy", "les collines d anacapri from book i"): "Preludes, Book I, No. 5, Les collines d'Anacapri",
    ("claude debussy", "feux d artifice from book ii"): "Preludes, Book II, No. 12, Feux d'artifice",
    ("claude debussy", "ondine from book ii"): "Preludes, Book II, No. 8, Ondine",
    ("claude debussy", "prelude no 24 fireworks"): "Preludes, Book II, No. 12, Feux d'artifice",
    ("franz liszt", "etude no 6 in a minor"): "Grandes études de Paganini, No. 6",
    ("franz liszt", "rhapsody esp"): "Rhapsodie espagnole",
    ("franz liszt", "spanish rhapsody"): "Rhapsodie espagnole",
}
