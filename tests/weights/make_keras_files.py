"""Write the fixtures of Keras; run with keras 3 and any backend.

    python tests/weights/make_keras_files.py

The tests read what it wrote. `keras_expected.npz` holds the weights by layer and variable.
"""

from pathlib import Path

import keras
import numpy as np

FOLDER = Path(__file__).parent / "fixtures"


def main() -> None:
    keras.utils.set_random_seed(0)
    layers = [
        keras.layers.Input((3, 3, 1)),
        keras.layers.Conv2D(2, 2, name="conv", bias_initializer="normal"),
        keras.layers.BatchNormalization(name="norm", gamma_initializer="normal"),
        keras.layers.Flatten(),
        keras.layers.Dense(2, name="head", bias_initializer="normal"),
    ]
    model = keras.Sequential(layers)
    model.compile("sgd", "mse")
    model.fit(np.ones((2, 3, 3, 1)), np.ones((2, 2)), verbose=0)
    model.save(FOLDER / "model.keras")
    model.save(FOLDER / "model.h5")
    model.save_weights(FOLDER / "model.weights.h5")
    weights = {
        f"{layer.name}/{weight.name}": keras.ops.convert_to_numpy(weight)
        for layer in model.layers
        for weight in layer.weights
    }
    np.savez_compressed(FOLDER / "keras_expected.npz", **weights)


if __name__ == "__main__":
    main()
