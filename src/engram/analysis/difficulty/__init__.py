"""How hard it is to generalise: inductive bias complexity, and the measures that it is computed from."""
