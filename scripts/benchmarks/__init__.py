"""The benchmark: Strongroom beside what people use today, in the same run on the same data. Started by ``scripts/bench``."""
