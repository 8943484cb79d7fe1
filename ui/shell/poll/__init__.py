"""Questions that phones answer: kept in memory, shown as plain pages, no Streamlit in them."""
