"""Heads: how features become logits where a mean and one linear layer do not.

Sources: Krizhevsky et al. 2012, Simonyan and Zisserman 2015 (1409.1556), Sermanet et al. 2014
(1312.6229), Lin et al. 2014 (1312.4400).
"""

from torch import Tensor, nn

from search_spaces.blocks.convolution import Activation, activation_layer


class FlattenDense(nn.Module):
    """logits = linear(... dropout(activation(linear(flatten(x))))): a multi-layer perceptron.

    [batch, c, h, w] -> [batch, classes]. ``widths``: units of the hidden layers, () for none;
    ``dropout`` acts behind each of them.
    """

    def __init__(
        self,
        in_channels: int,
        in_size: tuple[int, int],
        classes: int,
        widths: tuple[int, ...] = (),
        dropout: float = 0.0,
        activation: Activation = "relu",
    ) -> None:
        super().__init__()
        self.out_channels = classes
        units = in_channels * in_size[0] * in_size[1]
        self.layers = nn.Sequential()
        for width in widths:
            self.layers.append(nn.Linear(units, width))
            self.layers.append(activation_layer(activation))
            self.layers.append(nn.Dropout(dropout))
            units = width
        self.layers.append(nn.Linear(units, classes))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x.flatten(1))


class ConvolutionalClassifier(nn.Module):
    """logits = mean over h and w of conv1x1(... activation(conv kxk(x))): linear layers that slide.

    [batch, c, h, w] -> [batch, classes]. On a map of kernel x kernel pixels it computes what
    flatten_dense does with the same weights; on larger ones it averages the predictions of all
    places (OverFeat, VGG). ``widths`` () is one convolution of ``kernel`` (NiN, SqueezeNet);
    ``last`` is the activation of the logits before the mean.
    """

    def __init__(
        self,
        in_channels: int,
        classes: int,
        kernel: int = 1,
        widths: tuple[int, ...] = (),
        dropout: float = 0.0,
        activation: Activation = "relu",
        last: Activation = "none",
    ) -> None:
        super().__init__()
        self.out_channels = classes
        self.layers = nn.Sequential()
        for width in widths:
            self.layers.append(nn.Conv2d(in_channels, width, kernel))
            self.layers.append(activation_layer(activation))
            self.layers.append(nn.Dropout(dropout))
            in_channels, kernel = width, 1
        if not widths:
            self.layers.append(nn.Dropout(dropout))
        self.layers.append(nn.Conv2d(in_channels, classes, kernel))
        self.layers.append(activation_layer(last))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x).mean((2, 3))
