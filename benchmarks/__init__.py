"""Speed and memory on files of real size, as ratios to naive code within the same run: ``python -m benchmarks``."""
