"""Two episodes at once, each in an actor of Ray. It needs `pip install 'mlrcbench[ray]'`."""

import ray

from mlrcbench.integrations.ray import episode_actor

ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
actors = [episode_actor("_template", secret="public") for _ in range(2)]
ray.get([actor.begin.remote(instance=number) for number, actor in enumerate(actors)])
ray.get([actor.call.remote("evaluate") for actor in actors])
for number, result in enumerate(ray.get([actor.call.remote("submit") for actor in actors])):
    print(f"instance {number}: return {result.reward:+.3f}")
ray.get([actor.close.remote() for actor in actors])
ray.shutdown()
