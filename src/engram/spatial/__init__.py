"""Maps of space, and planners in them."""
