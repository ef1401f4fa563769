"""What the training code meant when its weights were last known to be right.

`python -m milib.study.identity` writes it; `identity.check_training` compares.
"""

TRAINING = "53c9a6a63178f1f4"
