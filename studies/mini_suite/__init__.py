"""The builder of the embedded suites `mini` and `mini-related`: small CLIP image classifiers, data and training."""
