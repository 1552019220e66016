"""distill-train: plan, train, distil, evaluate, export and report from one run file."""
