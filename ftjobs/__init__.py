"""ftjobs: does adapting a language model to our domain pay, and which model do we ship?"""
