"""The optional C extension modules; everything else about the package stands in setup.cfg."""

from glob import glob

from setuptools import Extension, setup

# Results must not depend on the compiler's taste: multiplications and additions are fused only in the feature
# kernel, where the last bit does not matter.
FLAGS = ["-std=c11", "-O3", "-Wall", "-Wextra", "-Wno-psabi"]
KERNELS = {
    "_mfcc": ["-ffp-contract=fast", "-fno-math-errno"],
    "_beam": ["-ffp-contract=off"],
    "_align": ["-ffp-contract=off"],
    "_lstm": ["-ffp-contract=fast", "-fno-math-errno"],
}

setup(
    ext_modules=[
        Extension(
            f"asrkit._native.{name}",
            [f"asrkit/_native/{name}.c"],
            depends=sorted(glob("asrkit/_native/*.h")),
            extra_compile_args=[*FLAGS, *flags],
            optional=True,
        )
        for name, flags in KERNELS.items()
    ]
)
