"""Resampling and log-mel spectra beside closed forms and transformers' own."""

import numpy as np
import pytest

from headstart.inputs.audio import log_mel, mel_filters, mel_of_parts, normalised, prepare, raised, resampled
from headstart.inputs.spec import AudioSpec

RATES = (8000, 11_025, 16_001, 22_050, 44_100, 48_000, 96_000, 192_000)


def sine(hz, rate, seconds=1.0):
    return np.sin(2 * np.pi * hz * np.arange(int(rate * seconds)) / rate).astype(np.float32)


@pytest.mark.parametrize("rate", RATES)
def test_a_tone_is_the_same_tone_at_another_rate(rate):
    wave = resampled(sine(440, rate), rate, 16_000)
    assert len(wave) == 16_000
    assert np.abs(wave - sine(440, 16_000))[1600:-1600].max() < 1e-5
    spectrum = np.abs(np.fft.rfft(wave * np.hanning(len(wave)), 8 * len(wave)))
    assert spectrum.argmax() / 8 == pytest.approx(440, abs=0.5)


@pytest.mark.parametrize("rate", [22_050, 44_100, 48_000])
@pytest.mark.parametrize("hz", [8010, 9000, 10_500])
def test_what_the_new_rate_cannot_hold_is_gone_and_not_mirrored(rate, hz):
    wave = resampled(sine(hz, rate), rate, 16_000)[1600:-1600]
    assert 20 * np.log10(np.sqrt((wave**2).mean())) < -120


def test_the_pass_band_is_flat_to_nine_tenths():
    for hz in (50, 1000, 5000, 7200):
        wave = resampled(sine(hz, 44_100), 44_100, 16_000)[1600:-1600]
        assert np.sqrt(2 * (wave**2).mean()) == pytest.approx(1, abs=1e-3)


def test_the_ends_of_a_sound_do_not_run_into_each_other():
    wave = np.zeros(44_100, np.float32)
    wave[-2000:] = 1
    assert np.abs(resampled(wave, 44_100, 16_000)[:200]).max() < 1e-3


def test_log_mel_is_what_transformers_gives_without_padding():
    transformers = pytest.importorskip("transformers")
    extractor = transformers.WhisperFeatureExtractor()
    for n in (1000, 16_000, 16_077, 50_001):
        wave = np.random.default_rng(n).normal(0, 0.1, n).astype(np.float32)
        theirs = extractor(wave, sampling_rate=16_000, padding="longest", pad_to_multiple_of=320, return_tensors="np")
        assert np.abs(log_mel(wave, 80) - theirs.input_features[0].T).max() < 1e-4


def test_mel_filters_are_those_of_transformers():
    audio_utils = pytest.importorskip("transformers.audio_utils")
    for mels in (40, 80, 128):
        theirs = audio_utils.mel_filter_bank(201, mels, 0.0, 8000.0, 16_000, norm="slaney", mel_scale="slaney")
        assert np.allclose(mel_filters(mels), theirs, atol=1e-8)


def test_normalised_samples_have_mean_0_and_variance_1():
    wave = normalised(3 + 5 * sine(100, 16_000))
    assert abs(wave.mean()) < 1e-5 and wave.var() == pytest.approx(1, abs=1e-4)


def test_what_is_beyond_the_window_is_cut_and_said():
    spec = AudioSpec(longest_s=1.0)
    short, long = (prepare(sine(440, 8000, seconds), 8000, spec) for seconds in (0.9, 1.5))
    assert (len(short.array), short.is_cut, len(long.array), long.is_cut) == (14_400, False, 16_000, True)
    assert np.abs(long.array - sine(440, 16_000))[100:-400].max() < 1e-3


def test_a_very_short_sound_fills_one_window():
    spec = AudioSpec(form="log-mel", mels=40)
    found = prepare(sine(440, 16_000, 0.01), 16_000, spec).array
    assert found.shape == (104 * 40,) and np.isfinite(found).all()


def slow_mel(wave, frame):
    """(40,) of the frame around sample 160 · frame, term by term: Hann's window, Fourier's sums, Slaney's triangles."""
    n, bands = np.arange(400), np.zeros(40)
    at = 160 * frame - 200 + n
    cut = np.where((at >= 0) & (at < len(wave)), wave[np.clip(at, 0, len(wave) - 1)], 0) * np.sin(np.pi * n / 400) ** 2
    power = [abs((cut * np.exp(-2j * np.pi * k * n / 400)).sum()) ** 2 for k in range(201)]
    top = 15 + 27 * np.log(8) / np.log(6.4)  # 8 kHz in mels
    mels = np.linspace(0, top, 42)
    hz = [m * 200 / 3 if m < 15 else 1000 * 6.4 ** ((m - 15) / 27) for m in mels]
    for band in range(40):
        low, middle, high = hz[band : band + 3]
        for k, energy in enumerate(power):
            height = min((40 * k - low) / (middle - low), (high - 40 * k) / (high - middle))
            bands[band] += max(0, height) * 2 / (high - low) * energy
    return bands


@pytest.mark.parametrize("n", [700, 30_000, 32_500])
def test_the_mel_of_parts_is_that_of_the_slow_formula(n):
    wave = np.random.default_rng(n).normal(0, 0.1, n).astype(np.float32)
    found = mel_of_parts(wave, 40)
    for frame in (0, 1, 4, 159, len(found) - 1):
        assert np.allclose(found[frame], slow_mel(wave, frame), rtol=1e-4, atol=1e-7), frame


# resemblyzer's compute_partial_slices, by hand: a second part starts at 12,320 samples and counts if 19,200 of its
# 25,600 are there; the third starts at 24,640.
@pytest.mark.parametrize(
    "samples, parts",
    [(1, 1), (25_600, 1), (31_519, 1), (31_520, 2), (43_839, 2), (43_840, 3), (16_000 * 30, 38)],
)
def test_a_last_part_counts_where_the_sound_reaches_three_quarters_of_it(samples, parts):
    assert mel_of_parts(np.zeros(samples, np.float32), 40).shape == (160 + 77 * (parts - 1), 40)


def test_quiet_sounds_are_raised_to_30_decibels_below_full_scale_and_loud_ones_left_alone():
    quiet, loud = 0.001 * sine(440, 16_000), 0.5 * sine(440, 16_000)
    assert 20 * np.log10(np.sqrt((raised(quiet) ** 2).mean())) == pytest.approx(-30, abs=1e-3)
    assert np.array_equal(raised(loud), loud) and raised(quiet).dtype == np.float32
    assert not raised(np.zeros(100, np.float32)).any()
