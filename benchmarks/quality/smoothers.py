"""Smoothers of one series at a time, as a practitioner would pick them up."""

import numpy as np

WIDTH = 7  # of the moving average
SAVITZKY_GOLAY = {"window_length": 11, "polyorder": 3}
WAVELET = "db4"


def moving_average(values):
    """Centred, of 7 steps; fewer at the ends."""
    taps = np.ones(WIDTH)
    return np.convolve(values, taps, "same") / np.convolve(np.ones(len(values)), taps, "same")


def savitzky_golay(values):
    from scipy.signal import savgol_filter

    return savgol_filter(values, **SAVITZKY_GOLAY)


def wavelet_threshold(values):
    """Universal soft threshold, the noise from the finest details (Donoho & Johnstone 1994)."""
    import pywt

    rough, *details = pywt.wavedec(values, WAVELET)
    deviation = np.median(np.abs(details[-1])) / 0.6745
    threshold = deviation * np.sqrt(2 * np.log(len(values)))
    # The threshold shrinks by division by magnitudes, of which some are zero.
    with np.errstate(divide="ignore", invalid="ignore"):
        shrunk = [pywt.threshold(d, threshold, "soft") if threshold else d for d in details]
    return pywt.waverec([rough, *shrunk], WAVELET)[: len(values)]


def whittaker(values):
    """Penalised second differences; the penalty by generalised cross-validation.

    In the basis of the discrete cosine transform both are diagonal (Garcia 2010).
    """
    from scipy.fft import dct, idct
    from scipy.optimize import minimize_scalar

    n = len(values)
    penalty = (2 - 2 * np.cos(np.pi * np.arange(n) / n)) ** 2
    spectrum = dct(values, norm="ortho")

    def shrinkage(log_strength):
        return 1 / (1 + 10**log_strength * penalty)

    def score(log_strength):
        kept = shrinkage(log_strength)
        return np.mean(((1 - kept) * spectrum) ** 2) / (1 - kept.mean()) ** 2

    best = minimize_scalar(score, bounds=(-4, 8), method="bounded").x
    return idct(shrinkage(best) * spectrum, norm="ortho")


def without_first_mode(values):
    """Empirical mode decomposition, less the fastest mode."""
    from PyEMD import EMD

    modes = EMD()(values)
    return values - modes[0] if len(modes) > 1 else values
