"""Every scan of a data set is opened before anything is trained on it."""

import fedmri

data = fedmri.example_data("example-data", sites=3, subjects=6, spacing_mm=8)
broken = sorted(data.glob("sub-*/anat/*_T1w.nii.gz"))[0]
whole = broken.read_bytes()
broken.write_bytes(whole[: len(whole) // 2])  # a copy that was cut off

check = fedmri.check_data(data, fedmri.Segmentation("mask", ["lesion"]), manifest="manifest.tsv")
print(check.used().to_string(index=False))
print(check.findings()[["code", "site", "count", "title"]].to_string(index=False))

broken.write_bytes(whole)
mended = fedmri.check_data(data)
mended.enforce()  # raises what a run would raise
print(f"Mended: {mended.used()['used'].sum()} scans can be used.")
