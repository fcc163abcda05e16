"""All that memory stores, saved over and over by a process that is killed: each file is whole, old or new."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import torch

from engram.memory import DND, NOODL, AssociativeStore, ExpanderMemory, KeyValueMemory

SAVER = """
import sys
from pathlib import Path
import numpy as np, torch
from engram.memory import NOODL, AssociativeStore, ExpanderMemory, KeyValueMemory, random_regular
folder = Path(sys.argv[1])
models = [NOODL(200, dict_init=sign * np.eye(200)).partial_fit(np.eye(200)[:3]) for sign in (1, -1)]
store = AssociativeStore(ExpanderMemory(random_regular(240, 5, 6, seed=0)))
learner = ExpanderMemory(random_regular(24, 3, 4, seed=0), "learn")
table = KeyValueMemory(1000, 8)
while True:
    i = len(store)
    store.write([f"item {i}"])
    learner.learn(1 - 2 * torch.randint(0, 2, (1, 24)))
    table.write(torch.full((1, 8), float(i)), torch.full((1,), float(i)))
    for name, each in {"store": store, "learner": learner, "table": table, "model": models[i % 2]}.items():
        each.save(folder / name)
    print(flush=True)
"""


def test_a_save_that_is_killed_leaves_a_whole_file(tmp_path, effort):
    for delay in np.random.default_rng(0).uniform(0, 0.02, effort):
        saver = subprocess.Popen([sys.executable, "-c", SAVER, str(tmp_path)], stdout=subprocess.PIPE)
        for _ in range(4):
            saver.stdout.readline()
        time.sleep(delay)
        os.kill(saver.pid, signal.SIGKILL)
        saver.wait()
        saver.stdout.close()
        store = AssociativeStore.load(tmp_path / "store")
        labels = [f"item {i}" for i in range(len(store))]
        assert len(store) >= 4
        assert store.recall(store.address(labels), torch.Generator().manual_seed(0)).labels == labels
        assert ExpanderMemory.load(tmp_path / "learner").n_hidden > 0
        table = KeyValueMemory.load(tmp_path / "table")
        count = int(table.n_filled)
        assert count >= 4
        assert torch.equal(table.values[0, :count, 0], torch.arange(count).float())
        model = NOODL.load(tmp_path / "model")
        np.testing.assert_array_equal(np.abs(model.components_), np.eye(200))
        assert len(np.unique(np.diag(model.components_))) == 1  # one of the two, whole


def test_a_memory_of_doubles_is_saved_as_such(tmp_path):
    memory = KeyValueMemory(4, 1).double()
    memory.write(torch.tensor([[0.1]]).double(), torch.tensor([0.3]).double())
    memory.save(tmp_path / "memory")
    again = KeyValueMemory.load(tmp_path / "memory")
    assert again.keys.dtype == torch.float64
    assert torch.equal(again.keys, memory.keys)


def test_trained_keys_of_doubles_are_saved_as_such(tmp_path):
    memory = DND(4, 1, train_memory=True).double()
    memory.write(torch.tensor([[0.1]]).double(), torch.tensor([0.3]).double())
    memory.save(tmp_path / "memory")
    again = DND.load(tmp_path / "memory")
    assert again.keys.dtype == again.values.dtype == torch.float64
    assert torch.equal(again.keys, memory.keys)
