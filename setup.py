"""The optional C extension modules; everything else about the package stands in setup.cfg."""

import os
from glob import glob
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

# Results must not depend on the compiler's taste: multiplications and additions are fused only where the
# last bit does not matter.
FLAGS = ["-std=c11", "-O3", "-Wall", "-Wextra", "-Wno-psabi"]
KERNELS = {
    "_mfcc": ["-ffp-contract=fast", "-fno-math-errno"],
    "_beam": ["-ffp-contract=off"],
    "_align": ["-ffp-contract=off"],
    "_lstm": ["-ffp-contract=fast", "-fno-math-errno"],
    "_transducer": ["-ffp-contract=fast", "-fno-math-errno"],
    "_attention": ["-ffp-contract=fast", "-fno-math-errno"],
    "_ctc_prefix": ["-ffp-contract=fast", "-fno-math-errno"],
}


class BuildKernels(build_ext):
    """In a source tree that several environments share, and whose kernels running programs are about to load.

    A new kernel takes the old one's place at once, when it is whole. Where none can be built, the old one stays, unless
    it is older than its sources: its Python code may have changed with them.
    """

    def copy_extensions_to_source(self) -> None:
        super().copy_extensions_to_source()
        for kernel in self.extensions:
            changed = max(os.path.getmtime(path) for path in (*kernel.sources, *kernel.depends))
            for built in glob(f"{os.path.splitext(kernel.sources[0])[0]}.*.so"):
                if os.path.getmtime(built) < changed:
                    Path(built).unlink()

    def copy_file(self, infile: str, outfile: str, *args: object, **options: object) -> tuple[str, int]:
        temporary = f"{outfile}.tmp-{os.getpid()}"
        super().copy_file(infile, temporary, *args, **options)
        os.replace(temporary, outfile)
        return outfile, 1


setup(
    cmdclass={"build_ext": BuildKernels},
    ext_modules=[
        Extension(
            f"asrkit._native.{name}",
            [f"asrkit/_native/{name}.c"],
            depends=sorted(glob("asrkit/_native/*.h")),
            extra_compile_args=[*FLAGS, *flags],
            optional=True,
        )
        for name, flags in KERNELS.items()
    ],
)
