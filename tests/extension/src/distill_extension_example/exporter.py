"""The format ``annotated``: CTranslate2's, with a note beside it that says what it was made from."""

from typing import ClassVar

from distill_deploy import Conversion
from distill_deploy.ctranslate2_export import CTranslate2Exporter


class AnnotatedExporter(CTranslate2Exporter):
    """CTranslate2 in float32, and ``NOTE.txt``."""

    precisions: ClassVar[tuple[str, ...]] = ("fp32",)
    exporter: ClassVar[str] = "plugin"

    def convert(self, job: Conversion) -> None:
        """Write what CTranslate2 reads, and the note."""
        super().convert(job)
        (job.out / "NOTE.txt").write_text(f"made in {job.precision}\n", encoding="utf-8")
