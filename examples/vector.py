"""Many environments at once, each on its own instance, with actions as JSON text."""

import json

import mlrcbench

SUBMIT = json.dumps({"action": "submit"})

if __name__ == "__main__":
    vector = mlrcbench.make_vec("_template", 4, vectorization_mode="threads", instances=100)
    observations, infos = vector.reset(seed=0)
    print("instances", infos["instance"].tolist())
    vector.action_space.seed(0)
    for _ in range(3):
        observations, rewards, terminated, truncated, infos = vector.step(vector.action_space.sample())
        print([text.splitlines()[0][:30] for text in observations["text"]])
    observations, rewards, terminated, truncated, infos = vector.step((SUBMIT,) * 4)
    print("returns", rewards.round(3).tolist())
    vector.close()
