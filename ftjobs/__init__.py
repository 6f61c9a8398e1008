"""ftjobs: does adapting a language model to our domain pay, and which model do we ship?"""

from importlib.metadata import version

__version__ = version("ftjobs")
