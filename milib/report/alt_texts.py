"""What is seen in each figure, for readers who do not see it."""

CURVES = "with a band for its 95 % interval"
PICTURES = "Rows of small pictures"
SEEN = {
    "data": f"{PICTURES}: the first test images, each with its label above it.",
    "mixing": "One row of pictures: one test image turns into another as lambda goes from 0 to 1.",
    "training_mixup": "Two curves of held-out accuracy in percent by epoch: ERM and mixup, "
    "each with its band.",
    "training_at": "Two panels of held-out accuracy in percent by epoch, clean and under PGD-10; "
    "in each a curve for AT and one for interpolated AT, with their bands.",
    "linearity": "Two panels: total variation against the mixup ratio, from mixed predictions and "
    "from mixed labels; in each a curve for ERM and one for mixup, arched over the middle.",
    "linearity_all": "Two panels: total variation against the mixup ratio, from mixed predictions "
    "and from mixed labels; in each a curve for each of the four models, arched over the middle.",
    "fig1": "Three sketches of arrows: noise moves an input and leaves its perturbation as it was; "
    "image processing turns the perturbation; mixing with another image shortens it.",
    "fig2": "Pairs of panels, MI-PL on the left and MI-OL on the right, against the mixup ratio: "
    "probabilities of clean and of adversarial inputs with MI, without it and in the ideal case, "
    "then two differences of probabilities, each beside its threshold.",
    "monte_carlo": "Two falling lines on logarithmic axes: the error of F_MI against the number of "
    "draws, for MI-PL and MI-OL, each beside a line of slope -1/2.",
    "pgd": f"{PICTURES}: clean images, the same images under PGD-10, and the perturbation.",
    "mixed_inputs": f"{PICTURES}: one adversarial image, and mixtures of it by MI-PL and by MI-OL.",
    "oblivious": "A mark with an interval for each row of the table of notebook 04: its accuracy "
    "under untargeted PGD-10 in percent; beside it a cross where the paper prints a value.",
    "fig3a": "A panel for each model: ROC curves of MI-PL, MI-OL and plain confidence, each "
    f"{CURVES}; a diagonal marks guessing.",
    "fig3b": "Two panels, mixup and interpolated AT: accuracy under PGD-10 against clean accuracy, "
    "a line of marks for each defense; circles mark the Pareto front.",
    "fig4": "Two panels, mixup and interpolated AT: accuracy of MI-OL against the number of "
    f"adaptive samples, a falling curve for each of three attacks {CURVES}; "
    "a dashed line is the bare model.",
    "fig5": f"{PICTURES}: clean images, the same images under the adaptive attack, and the "
    "perturbation.",
    "convergence": "Panels of accuracy in percent against steps, draws, restarts and epsilon of "
    "the attack; over epsilon the bare model stands beside MI-OL, and both fall to 0.",
}
"""Name of a figure -> what is seen in it."""


def alt_text(name: str, caption: str) -> str:
    """The text that stands for a figure where it is not seen.

    - name: of the figure.
    - caption: stands for a figure that SEEN does not have.
    """
    return SEEN.get(name, caption)
