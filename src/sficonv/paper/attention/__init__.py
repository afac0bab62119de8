"""Figure 5: where detectors look, vanilla beside SFIC."""
