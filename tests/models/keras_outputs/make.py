"""Writes outputs.npz: what Keras makes of the weights and inputs in networks.py.

    pip install keras jax
    KERAS_BACKEND=jax python tests/keras_outputs/make.py

Stored with keras 3.15.1 on jax 0.10.2 (CPU, float32). Only the outputs are stored; both sides
draw the weights and inputs from the same seeded NumPy generator.
"""

import keras
import numpy as np
from keras import layers
from networks import STORED, inputs, weights


def cnn():
    net = [keras.Input((224, 224, 3))]
    for channels in (32, 64, 128, 128):
        net += [layers.Conv2D(channels, (3, 3), activation="relu"), layers.MaxPooling2D((2, 2))]
    net += [layers.Flatten(), layers.Dense(512, activation="relu"), layers.Dense(10)]
    return keras.Sequential(net)


def autoencoder():
    def conv(channels, activation="relu"):
        return layers.Conv2D(channels, (3, 3), activation=activation, padding="same")

    def pool():
        return layers.MaxPooling2D((2, 2), padding="same")

    def up():
        return layers.UpSampling2D((2, 2))

    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            *(conv(16), pool(), conv(8), pool(), conv(8)),
            *(conv(8), up(), conv(16), up(), conv(1, "sigmoid")),
        ]
    )


def generator():
    def up(channels, stride, **options):
        return layers.Conv2DTranspose(
            channels, (5, 5), (stride, stride), padding="same", use_bias=False, **options
        )

    def act():
        return [layers.BatchNormalization(), layers.LeakyReLU()]

    return keras.Sequential(
        [
            keras.Input((100,)),
            *(layers.Dense(4 * 4 * 256, use_bias=False), *act(), layers.Reshape((4, 4, 256))),
            *(up(128, 1), *act()),
            *(up(64, 2), *act()),
            up(3, 2, activation="tanh"),
        ]
    )


def discriminator():
    def stage(channels):
        conv = layers.Conv2D(channels, (5, 5), (2, 2), padding="same")
        return [conv, layers.LeakyReLU(), layers.Dropout(0.3)]

    return keras.Sequential(
        [keras.Input((16, 16, 3)), *stage(64), *stage(128), layers.Flatten(), layers.Dense(1)]
    )


def main():
    outputs = {}
    for build in (cnn, autoencoder, generator, discriminator):
        net, name = build(), build.__name__
        net.set_weights([array for layer in weights(name) for array in layer])
        outputs[name] = np.asarray(net(inputs(name), training=False))
        outputs[f"{name} parameters"] = np.int64(net.count_params())
        print(name, net.count_params(), outputs[name].shape, outputs[name].std())
    np.savez_compressed(STORED, **outputs)
    print(STORED, STORED.stat().st_size, "bytes; keras", keras.__version__)


if __name__ == "__main__":
    main()
