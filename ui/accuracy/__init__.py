"""The pages Accuracy, Compare and Leaderboard."""
