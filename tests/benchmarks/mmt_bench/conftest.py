import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # the questions that all of these tests ask
