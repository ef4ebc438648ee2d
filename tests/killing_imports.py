"""What the commands of `killing` import, so that their processes need not."""

import infoscope.cli.site_inputs
import infoscope.comparison.sweep
import infoscope.demo.demo
import infoscope.outliers.measure
import infoscope.probes.probe
import infoscope.report.outliers
import infoscope.report.page
import infoscope.zeroshot.measure  # noqa: F401
