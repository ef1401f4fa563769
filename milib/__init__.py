"""Mixup Inference (Pang, Xu, Zhu, ICLR 2020): models, training, attacks, defences and theory of the study.

Pixels are in [0, 1] everywhere outside a model; eps, step sizes and sigma are on that scale.
"""
