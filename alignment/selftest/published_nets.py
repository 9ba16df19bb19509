"""Small ports of published networks for the self-test; `alignment/cases` names their references.

ViT is that of torchvision with its names. ConvNeXt and the LSTM classifier stand beside torch_side/published_nets.py.
Code that a mutation replaces is in methods of its own.
"""

import paddle
from paddle import nn


class EncoderBlock(nn.Layer):
    """Attention and a perceptron, each after a layer norm and with a residual: [B, N, width] -> the same."""

    def __init__(self, width: int, num_heads: int, mlp_width: int):
        super().__init__()
        self.ln_1 = nn.LayerNorm(width, epsilon=1e-6)
        self.self_attention = nn.MultiHeadAttention(width, num_heads)
        self.dropout = nn.Dropout(0.0)
        self.ln_2 = nn.LayerNorm(width, epsilon=1e-6)
        self.mlp = nn.Sequential(
            nn.Linear(width, mlp_width), nn.GELU(), nn.Dropout(0.0), nn.Linear(mlp_width, width), nn.Dropout(0.0)
        )

    def add(self, x, y):
        return x + y

    def forward(self, x):
        y = self.ln_1(x)
        x = self.dropout(self.self_attention(y, y, y)) + x
        return self.add(x, self.mlp(self.ln_2(x)))


class Encoder(nn.Layer):
    """Position embedding, blocks, layer norm.

    Args:
        length: number of tokens.
        num_layers: number of blocks.
        width: of a token.
        num_heads: of the attention.
        mlp_width: of the perceptron.
    """

    def __init__(self, length: int, num_layers: int, width: int, num_heads: int, mlp_width: int):
        super().__init__()
        self.pos_embedding = self.create_parameter(
            [1, length, width], default_initializer=nn.initializer.Normal(std=0.02)
        )
        self.dropout = nn.Dropout(0.0)
        self.layers = nn.Sequential(
            *((f"encoder_layer_{k}", EncoderBlock(width, num_heads, mlp_width)) for k in range(num_layers))
        )
        self.ln = nn.LayerNorm(width, epsilon=1e-6)

    def add_positions(self, x):
        return x + self.pos_embedding

    def forward(self, x):
        return self.ln(self.layers(self.dropout(self.add_positions(x))))


class ViT(nn.Layer):
    """Vision transformer: images [B, 3, 32, 32] -> logits [B, num_classes].

    Args:
        num_classes: number of logits.
        width: of a token.
        patch: height and width of a patch in pixels.
        num_layers: number of blocks.
    """

    def __init__(self, num_classes: int = 10, width: int = 16, patch: int = 8, num_layers: int = 2):
        super().__init__()
        self.conv_proj = nn.Conv2D(3, width, patch, patch)
        self.class_token = self.create_parameter([1, 1, width], default_initializer=nn.initializer.Constant(0.0))
        self.encoder = Encoder((32 // patch) ** 2 + 1, num_layers, width, 2, 2 * width)
        zeros = nn.initializer.Constant(0.0)
        head = nn.Linear(width, num_classes, weight_attr=paddle.ParamAttr(initializer=zeros))
        self.heads = nn.Sequential(("head", head))

    def with_token(self, x):
        token = self.class_token.expand([x.shape[0], -1, -1])
        return paddle.concat([token, x], axis=1)

    def token(self, x):
        return x[:, 0]

    def forward(self, x):
        x = self.conv_proj(x).flatten(2).transpose([0, 2, 1])  # [B, N, width]
        return self.heads(self.token(self.encoder(self.with_token(x))))


class Block(nn.Layer):
    """Block of ConvNeXt: depthwise convolution, layer norm, perceptron, layer scale, residual."""

    def __init__(self, width: int):
        super().__init__()
        self.dwconv = nn.Conv2D(width, width, 7, padding=3, groups=width)
        self.norm = nn.LayerNorm(width, epsilon=1e-6)
        self.pwconv1 = nn.Linear(width, 4 * width)
        self.act = nn.GELU()
        self.pwconv2 = nn.Linear(4 * width, width)
        self.gamma = self.create_parameter([width], default_initializer=nn.initializer.Constant(1e-6))

    def scale(self, x):
        return x * self.gamma

    def add(self, x, y):
        return x + y

    def forward(self, x):
        y = self.norm(self.dwconv(x).transpose([0, 2, 3, 1]))
        y = self.scale(self.pwconv2(self.act(self.pwconv1(y))))
        return self.add(x, y.transpose([0, 3, 1, 2]))


class LayerNorm2D(nn.Layer):
    """Layer norm over the channels of [B, C, H, W]."""

    def __init__(self, width: int):
        super().__init__()
        self.norm = nn.LayerNorm(width, epsilon=1e-6)

    def forward(self, x):
        return self.norm(x.transpose([0, 2, 3, 1])).transpose([0, 3, 1, 2])


class ConvNeXt(nn.Layer):
    """Two stages of ConvNeXt: images [B, 3, 32, 32] -> logits [B, num_classes]."""

    def __init__(self, num_classes: int = 10, width: int = 8):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2D(3, width, 4, 4), LayerNorm2D(width))
        self.stage1 = nn.Sequential(Block(width), Block(width))
        self.down = nn.Sequential(LayerNorm2D(width), nn.Conv2D(width, 2 * width, 2, 2))
        self.stage2 = nn.Sequential(Block(2 * width))
        self.pool = nn.AdaptiveAvgPool2D(1)
        self.norm = nn.LayerNorm(2 * width, epsilon=1e-6)
        self.head = nn.Linear(2 * width, num_classes)

    def flat(self, x):
        return x.flatten(1)

    def forward(self, x):
        x = self.stage2(self.down(self.stage1(self.stem(x))))
        return self.head(self.norm(self.flat(self.pool(x))))


class TextClassifier(nn.Layer):
    """Embedding, two LSTM layers in both directions, mean over the steps: words [B, T] -> logits [B, num_classes]."""

    def __init__(self, num_classes: int = 5, num_words: int = 40, width: int = 8):
        super().__init__()
        self.embedding = nn.Embedding(num_words, width, padding_idx=0)
        self.lstm = nn.LSTM(width, width, num_layers=2, direction="bidirect")
        self.norm = nn.LayerNorm(2 * width)
        self.dropout = nn.Dropout(0.25)
        self.head = nn.Linear(2 * width, num_classes)

    def embed(self, words):
        return self.embedding(words)

    def mean(self, x):
        return x.mean(1)

    def forward(self, words):
        x = self.lstm(self.embed(words))[0]  # [B, T, 2 width]
        return self.head(self.dropout(self.norm(self.mean(x))))
