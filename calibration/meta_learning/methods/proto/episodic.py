"""Meta-training on episodes of a fixed size."""

import torch

EPISODES, RATE = 3600, 2e-3
WAYS, SHOTS, QUERIES = 5, 5, 5


def meta_train(network, dataset, loss_of, episodes=EPISODES):
    """Minimise `loss_of(task)`, a tensor with gradients in the weights of the network, over random tasks."""
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam(network.parameters(), lr=RATE)
    for episode in range(episodes):
        loss = loss_of(dataset.task(generator, WAYS, SHOTS, QUERIES))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if (episode + 1) % 300 == 0:
            print(f"episode {episode + 1}: loss {loss.item():.3f}", flush=True)
    return network.eval()
