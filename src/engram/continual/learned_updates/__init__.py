"""Learned updates: how far each weight may move is learned from what becomes of old tasks, and not assumed."""
