"""Do two systems compute alike? Dynamical similarity analysis, and measures of the shape of their activity."""
