"""What the commands of `killing` import, so that their processes need not."""

import infoscope.analyses.outliers.measure
import infoscope.analyses.probes.probe
import infoscope.analyses.sweep
import infoscope.analyses.zeroshot.measure  # noqa: F401
