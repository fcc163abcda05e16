"""How hard it is to generalise: inductive bias complexity, and the measures from which it is computed."""
