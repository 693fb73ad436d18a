"""Each method against plain NumPy written from its paper's equations."""
