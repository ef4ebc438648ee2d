"""What the commands of `killing` import and load at their first call, so that their processes need not."""

import gc

import altair  # noqa: F401
import numba
import PIL.Image
import transformers.models.auto.image_processing_auto
import transformers.models.auto.modeling_auto
import transformers.models.dinov2.modeling_dinov2  # noqa: F401

import infoscope.analyses.outliers.measure
import infoscope.analyses.probes.probe
import infoscope.analyses.sweep
import infoscope.analyses.zeroshot.measure
import infoscope.measurement.measure
import infoscope.training.train
import infoscope.views.report.training  # noqa: F401

PIL.Image.init()
# numba loads its own implementations with the first function. This one starts no threads, which no fork would have.
numba.njit(lambda value: value)(1.0)
# Whatever is here is left alone by the collector, which would otherwise go over it all, and copy it, in every fork.
gc.freeze()
