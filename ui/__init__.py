"""What the pages of the dashboard share: state, theme, figures, forms, run panels."""
