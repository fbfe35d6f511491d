"""Batches side by side: each thread keeps to its share of the cores."""

import torch

from sbert.engine.workers import _pool


def test_a_thread_computes_with_its_share_of_the_cores() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:

        def work() -> int:
            torch.nn.functional.layer_norm(torch.ones(4096, 64), (64,))  # the first operation sets the thread up
            return torch.get_num_threads()

        assert _pool(2).submit(work).result() == 1
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
