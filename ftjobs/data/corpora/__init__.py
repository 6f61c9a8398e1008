"""Adaptation corpora: read passages, drop duplicates and passages with test texts, publish the rest."""
