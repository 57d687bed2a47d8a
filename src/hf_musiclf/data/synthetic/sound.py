"""How it sounds: notes, drum strokes, the parts of a song, and the finished recording."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np

from hf_musiclf.data.synthetic.score import Song
from hf_musiclf.data.synthetic.styles import CHORD_TONES, DRUMS, LOWEST, QUALITIES, STEPS, Patch

TABLE, FRAMES, HARMONICS = 1024, 16, 40  # a note: samples a period, periods it passes through, harmonics at most


def tone(patch: Patch, midi: int, n: int, rate: int, rng: np.random.Generator) -> np.ndarray:
    """One note: `(n,)` at about unit RMS before it decays."""
    frequency, seconds = 440.0 * 2 ** ((midi - 69) / 12), np.arange(n) / rate
    phase = frequency * seconds
    if patch.vibrato:  # at a singer's 5.5 Hz; the integral of a deviation by `vibrato` semitones is the phase
        depth = frequency * (2 ** (patch.vibrato / 12) - 1) / (2 * np.pi * 5.5)
        phase += depth * np.minimum(seconds / 0.3, 1) * np.sin(2 * np.pi * 5.5 * seconds)
    if patch.fm:
        decay = math.sqrt(2) * np.exp(-seconds / patch.ring)
        wave = decay * np.sin(2 * np.pi * phase + patch.fm * decay * np.sin(2 * np.pi * patch.ratio * phase))
    else:
        tables = _wavetables(patch, frequency, n, rate, rng)
        place, wave = np.linspace(0, FRAMES - 1.001, n), 0.0
        frame = place.astype(np.int32)
        for cycles in (phase, phase * 2 ** (patch.detune / 12) + 0.5)[: 2 if patch.detune else 1]:
            index = frame * TABLE + (cycles * TABLE).astype(np.int32) % TABLE
            now = tables.take(index)
            wave = wave + now + (place - frame) * (tables.take(index + TABLE) - now)
    ramp, fade = min(n // 2, int(patch.attack * rate) + 1), min(n // 3, rate // 50)
    wave[:ramp] *= np.linspace(0, 1, ramp)
    wave[n - fade :] *= np.linspace(1, 0, fade)
    return wave


def _wavetables(patch: Patch, frequency: float, n: int, rate: int, rng: np.random.Generator) -> np.ndarray:
    """The note's period at equally spaced moments of its `n` samples: `(FRAMES, TABLE)`."""
    k = np.arange(1, min(HARMONICS, max(1, int(0.45 * rate / frequency))) + 1)  # below the Nyquist frequency
    gain, decay = k**-patch.rolloff * np.where(k % 2, 1.0, patch.even), np.full(len(k), 1 / patch.ring)
    if patch.formants:
        centre = np.array(patch.formants)[:, None]
        gain *= 0.15 + (1 / (1 + ((k * frequency - centre) / (0.12 * centre + 60)) ** 2)).sum(axis=0)
    if patch.string:
        # The loop of Karplus and Strong (1983) averages two neighbours a period, which scales harmonic k by
        # cos(pi k f / rate); the logarithm is about -(pi k f / rate)^2 / 2 a period, and there are f periods a second.
        decay += frequency * (np.pi * k * frequency / patch.string) ** 2 / 2
        gain *= np.abs(np.sin(np.pi * k * 0.22))  # plucked at 22 % of the string
    spectrum = np.zeros((FRAMES, TABLE // 2 + 1), complex)
    moments = np.linspace(0, n / rate, FRAMES)[:, None]
    spectrum[:, 1 : len(k) + 1] = gain * np.exp(-moments * decay + 2j * np.pi * rng.random(len(k)))
    return np.fft.irfft(spectrum, axis=1).astype(np.float32) * (TABLE / math.sqrt(2 * np.sum(gain**2)))


def _drum(letter: str, factor: float, rate: int, rng: np.random.Generator) -> np.ndarray:
    """One stroke: filtered noise and a falling tone, `(time,)`; `factor` scales its size in Hz and s."""
    low, high, decay, gain, pitch, fall, tone_decay, tone_gain = DRUMS[letter]
    n = int(rate * 5 * factor * max(decay, tone_decay))  # exp(-5) is -43 dB
    seconds, hertz = np.arange(n) / rate, np.maximum(np.fft.rfftfreq(n, 1 / rate), 1)
    low = min(low * factor, rate / 4)  # an edge above the Nyquist frequency would leave silence
    noise = np.fft.rfft(rng.standard_normal(n)) / (1 + (low / hertz) ** 4) / (1 + (hertz / high / factor) ** 4)
    noise = np.fft.irfft(noise, n)
    cycles = pitch * factor * (seconds + fall * 0.03 * (1 - np.exp(-seconds / 0.03)))
    stroke = gain * noise / noise.std() * np.exp(-seconds / (decay * factor))
    stroke += tone_gain * np.sin(2 * np.pi * cycles) * np.exp(-seconds / (tone_decay * factor))
    return stroke * np.minimum(1, 5 * (1 - np.arange(n) / n))


class Player:
    """Plays a song's score on one bus a role, `(time,)` each."""

    def __init__(self, song: Song, n: int, rate: int, rng: np.random.Generator):
        self.song, self.n, self.rate, self.rng = song, n, rate, rng
        self.bars = math.ceil((n / rate * song.tempo / 60 + song.lag) / 4)

    def _add(self, bus: np.ndarray, bar: int, step: int, sound: np.ndarray, gain: float, delay: int = 0) -> None:
        """Add a sound where the step falls: swung, and off the grid by a human 4 ms and up to 2 dB."""
        whole, part = divmod(step / 4 / self.song.swung, 1)
        swing = self.song.swing
        part = 2 * swing * part if part < 0.5 else swing + (2 * part - 1) * (1 - swing)
        beats = 4 * bar + (whole + part) * self.song.swung - self.song.lag
        start = int((beats * 60 / self.song.tempo + self.rng.normal(0, 0.004)) * self.rate) + delay
        sound = sound[max(0, -start) : max(0, self.n - start)]
        bus[max(0, start) : max(0, start) + len(sound)] += gain * self.rng.uniform(0.8, 1.0) * sound

    def drums(self) -> np.ndarray:
        bus, drums, rng = np.zeros(self.n), self.song.drums, self.rng
        kit = {letter: _drum(letter, self.song.habits.kit[letter], self.rate, rng) for letter in (*drums, "T")}
        for bar in range(self.bars if drums else 0):
            fill = bar % 4 == 3 and rng.random() < 0.4  # on the toms, in the last beat of four bars
            for letter, pattern in drums.items():
                for step in range(STEPS - 4 if fill else STEPS):
                    if pattern[step] != ".":
                        self._add(bus, bar, step, kit[letter], 1.0 if pattern[step] == "X" else 0.55)
            for step in range(STEPS - 4, STEPS if fill else 0):
                self._add(bus, bar, step, kit["T"], 0.7 * (rng.random() < 0.7))
        return bus

    def part(self, role: str) -> np.ndarray:
        bus, known, (patch, pattern) = np.zeros(self.n), {}, self.song.parts[role]
        melody = self._melody() if role == "lead" else None
        for bar in range(self.bars):
            for step, steps, pitches in melody[bar] if melody else self._accompaniment(role, pattern, bar):
                length = int(steps * patch.gate * 15 / self.song.tempo * self.rate)
                for string, midi in enumerate(pitches):
                    if (midi, length) not in known:
                        known[midi, length] = tone(patch, midi, length, self.rate, self.rng)
                    strum = string * self.rate // 125 if patch.string else 0
                    self._add(bus, bar, step, known[midi, length], 0.8 if step % 8 else 1.0, strum)
        if patch.drive:  # the amplifier clips the sum of the notes, as chords intermodulate; its loudspeaker dulls it
            clipped = np.fft.rfft(np.tanh(patch.drive * bus / (bus.std() + 1e-9)), size := _fft_length(self.n))
            bus = np.fft.irfft(clipped / (1 + (np.fft.rfftfreq(size, 1 / self.rate) / 4500) ** 4), size)[: self.n]
        return bus

    def _accompaniment(self, role: str, pattern: str, bar: int) -> list[tuple[int, int, list[int]]]:
        """A bar's notes: first step, steps, MIDI numbers."""
        root, quality = self.song.chords[bar % len(self.song.chords)]
        tones, low = QUALITIES[quality], LOWEST[role]
        base = low + (root - low) % 12
        chord = [base + tone for tone in tones[: 4 if "7" in quality else 3]]
        if quality != "5":  # a close voicing moves little between chords; a power chord keeps its fifth above the root
            chord = sorted(low + (note - low) % 12 for note in chord)
        pitches = {letter: [base + tone] for letter, tone in zip(CHORD_TONES, (*tones, 12, tones[1] + 12), strict=True)}
        pitches["C"] = chord
        onsets = [step for step in range(STEPS) if pattern[step] != "."]
        return [(step, end - step, pitches[pattern[step]]) for step, end in pairwise([*onsets, STEPS])]

    def _melody(self) -> list[list[tuple[int, int, list[int]]]]:
        """A walk on the scale, as above for each bar; two bars of rhythm repeat, half bars begin on the chord."""
        rng, low, place, bars = self.rng, LOWEST["lead"], 5, []
        strength = np.tile([1.5, 0.15, 0.9, 0.15], 2 * STEPS // 4)  # sixteenths are ornaments
        rhythm = rng.random(2 * STEPS) < self.song.style.density * strength
        ladder = [note for note in range(low, low + 22) if note % 12 in self.song.scale]
        for bar in range(self.bars):
            root, quality = self.song.chords[bar % len(self.song.chords)]
            chord = [note for note in range(low, low + 22) if (note - root) % 12 in QUALITIES[quality][:3]]
            onsets = [step for step in range(STEPS) if rhythm[bar % 2 * STEPS + step]] * (rng.random() < 0.85)
            bars.append([])
            for step, end in pairwise([*onsets, STEPS]):
                place = int(np.clip(place + rng.choice([-2, -1, -1, 0, 1, 1, 2]), 0, len(ladder) - 1))
                note = ladder[place] if step % 8 else min(chord, key=lambda tone: abs(tone - ladder[place]))
                bars[-1].append((step, min(end - step, 8), [note]))
        return bars


def _fft_length(n: int) -> int:
    """The smallest odd number up to 9 times a power of two that is n or more: FFTs of other lengths can be slow."""
    return min(odd * 2 ** max(1, math.ceil(math.log2(n / odd))) for odd in (1, 3, 5, 7, 9))


def master(dry: np.ndarray, song: Song, rate: int, rng: np.random.Generator) -> np.ndarray:
    """The artist's equaliser, room, hiss and limiter, and fades against clicks: `(time,)` in [-1, 1]."""
    habits, n = song.habits, len(dry)
    tail = np.arange(int(4 * habits.room_seconds * rate)) / rate
    echo = rng.standard_normal(len(tail)) * np.exp(-tail / habits.room_seconds)
    hertz = np.fft.rfftfreq(size := _fft_length(n + len(tail)), 1 / rate)
    octaves = np.log2(np.maximum(hertz, 20) / 1000)
    decibel = habits.tilt * octaves
    for centre, gain in habits.bells:
        decibel += gain * np.exp(-3 * (octaves - centre) ** 2)  # half as high half an octave away
    low, high = habits.band
    response = 10 ** (decibel / 20) / (1 + (low / np.maximum(hertz, 1)) ** 4) / (1 + (hertz / high) ** 8)
    response = response * (1 + song.style.room * habits.room * np.fft.rfft(echo / np.linalg.norm(echo), size))
    sound = np.fft.irfft(np.fft.rfft(dry, size) * response, size)[:n]
    sound *= 10 ** (habits.level / 20) / (sound.std() + 1e-9)
    sound = np.tanh(sound + 10 ** (habits.hiss / 20) * rng.standard_normal(n))
    fade = min(n // 2, rate // 100)
    sound[:fade] *= np.linspace(0, 1, fade)
    sound[n - fade :] *= np.linspace(1, 0, fade)
    return sound.astype(np.float32)
