"""Pure functions from numbers to plotly figures; nothing here knows streamlit."""
