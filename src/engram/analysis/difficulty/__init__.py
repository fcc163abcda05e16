"""How hard it is to generalise: inductive bias complexity, and the measurements it is computed from."""
