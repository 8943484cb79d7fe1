"""How everything looks: theme, figures, columns, forms made from parameters."""
