from ._version import __version__ as __version__
from .errors import EvaluationError as EvaluationError
from .errors import UsageError as UsageError
from .evaluation import Evaluation as Evaluation
from .evaluation import evaluate as evaluate
from .request import EvaluationRequest as EvaluationRequest
from .request import check_request as check_request
from .systems import System as System
