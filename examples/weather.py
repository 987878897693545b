"""A time series, with hindsight and without look-ahead."""

from denograd_jax import datasets, metrics, refine

COLUMNS = ["temp", "dewp", "humid", "pressure"]


def main():
    weather = datasets.load("nyc_weather_2013")
    clean = weather[weather["origin"] == "LGA"].head(2000)[["time_hour", *COLUMNS]]
    noisy = datasets.add_noise(clean, 0.3, columns=COLUMNS, seed=0)

    hindsight = refine(noisy, window=24, time="time_hour")
    causal = refine(noisy, window=24, time="time_hour", causal=True)
    waiting = refine(noisy, window=24, time="time_hour", causal=True, lag=2)

    print(hindsight.summary())
    behind = slice(500, None)  # a causal refinement learns from the first rows
    ratio = {}
    for name, refined in {"all rows": hindsight, "lag 2": waiting, "lag 0": causal}.items():
        parts = (f[COLUMNS].to_numpy()[behind] for f in (refined.data, noisy, clean))
        ratio[name] = metrics.error_ratio(*parts)
        print(f"{name:8} look-ahead {refined.look_ahead!s:5} error {ratio[name]:.2f} of the noise")
    return {
        "hindsight sees most": ratio["all rows"] < ratio["lag 2"] < ratio["lag 0"] < 1,
        "they say what they did": hindsight.look_ahead and not causal.look_ahead,
    }


if __name__ == "__main__":
    main()
