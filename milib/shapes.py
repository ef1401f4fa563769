"""Shapes of public calls as jaxtyping annotations: documentation here, enforced while tests run.

- B: inputs. P: (input, draw) pairs. N: draws. L: classes. C, H, W: an image.
- n: images of a data set or a record. m: images of a second one. S: snapshots.
"""

import numpy as np
from jaxtyping import Float, Int, Shaped, UInt8
from torch import Tensor

Images = Float[Tensor, "B C H W"]
Snapshots = Float[Tensor, "B S C H W"]
Numbers = Int[Tensor, "B"]
"""A label, a prediction or an index per input."""
Ranks = Int[Tensor, "B L-1"]
"""The classes other than an input's label, in an order."""
Scores = Float[Tensor, "B"]
Predictions = Float[Tensor, "B L"]
"""Logits, log F or F."""
EachDraw = Float[Tensor, "B N L"]

PairImages = Float[Tensor, "P C H W"]
PairNumbers = Int[Tensor, "P"]
PairPredictions = Float[Tensor, "P L"]
PairUniform = Float[Tensor, "P"]
PairRatio = Float[Tensor, "P 1 1 1"]
PairCrop = Float[Tensor, "P 3"]
Random = Float[Tensor, "P {size}"]
Starts = Float[Tensor, "P ..."]

Scalar = Float[Tensor, ""]
Bytes = UInt8[Tensor, "n C H W"]
Whole = Int[Tensor, "n"]
Crops = Float[Tensor, "B 3"]
AnyImages = Shaped[Tensor, "B C H W"]
Values = Shaped[np.ndarray, "n"]
OtherValues = Shaped[np.ndarray, "m"]
Points = Shaped[np.ndarray, "n 2"]
