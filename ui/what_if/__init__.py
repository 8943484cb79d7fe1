"""The page What if: live accuracy, interference, λ curves, landscapes."""
