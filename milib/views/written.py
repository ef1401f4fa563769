"""Numbers as a person writes them: labels of controls, and the texts beside them."""


def written(value: float) -> str:
    """A number without the rest that arithmetic leaves: "0.05", not "0.050000000000000044".

    - value: any number.
    """
    return f"{value:.3g}"


def of_pixels(value: float) -> str:
    """A size on pixels in [0, 1]: "0.1" where that is exact, else "8/255" where that is.

    - value: the size.
    """
    count = 255 * value
    short = abs(float(written(value)) - value) < 1e-9
    if short or abs(count - round(count)) > 1e-6 or round(count) == 0:
        return written(value)
    return f"{round(count)}/255"


def ratios(start: float) -> list[float]:
    """Values of lambda from 0.05 to 1, in steps of 0.05, and the run's own.

    - start: that of the run.
    """
    return sorted({round(0.05 * place, 2) for place in range(1, 21)} | {start})
