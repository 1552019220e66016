"""A metric, a divergence, an exporter and a kind of stage that are added from outside."""
