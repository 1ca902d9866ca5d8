"""A table of volumes from three scanners, harmonized by ComBat; later rows by the same fit."""

import numpy as np
import pandas as pd

import fedmri

random = np.random.default_rng(0)
site = np.repeat(["Aachen", "Bergen", "Como"], 40)
shift = pd.Series({"Aachen": 0.0, "Bergen": 0.8, "Como": -0.5})[site].to_numpy()
age = random.uniform(20, 80, len(site))
volumes = {
    f"volume_{k}": 5 - 0.02 * age + shift + random.normal(0, 0.3, len(site)) for k in range(6)
}
table = pd.DataFrame({"site": site, "age": age, **volumes})
first, later = table.iloc[:100], table.iloc[100:]

found = fedmri.harmonize_table(first, "site", covariates=["age"])
for name, frame in (("before", first), ("after", found.frame)):
    means = frame.groupby("site")["volume_0"].mean()
    print(f"{name}: sites differ by {means.max() - means.min():.2f}")

found.save("combat.npz")
combat = fedmri.TableHarmonizer.open("combat.npz", "site")
print(combat.apply(later).frame.head(3).to_string(index=False))
