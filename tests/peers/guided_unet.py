"""The U-Net of guided-diffusion in PyTorch, written from its description: its structure, its names of weights, nothing of its code.

    resample = means of 2 pixels, or repetition;    block(x) = skip(r(x)) + conv(silu(modulate(norm(conv(r(silu(norm(x))))), e)))

with r the resampling of a block that halves or doubles, and in volumes none along the depth.
"""

import math

import torch
from torch import nn
from torch.nn import functional


def norm(channels):
    return nn.GroupNorm(32, channels)


def conv(dims, inputs, outputs, size, **options):
    return {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}[dims](inputs, outputs, size, padding=size // 2, **options)


def plane(dims):
    """How many times smaller each axis gets."""
    return (1, 2, 2) if dims == 3 else (2,) * dims


def halve(x):
    return {3: functional.avg_pool1d, 4: functional.avg_pool2d, 5: functional.avg_pool3d}[x.ndim](x, plane(x.ndim - 2))


def double(x):
    return functional.interpolate(x, scale_factor=plane(x.ndim - 2), mode='nearest')


class Residual(nn.Module):
    def __init__(self, dims, inputs, outputs, embedding, adaptive, resize=None):
        super().__init__()
        self.adaptive, self.resize = adaptive, resize or (lambda x: x)
        self.in_layers = nn.Sequential(norm(inputs), nn.SiLU(), conv(dims, inputs, outputs, 3))
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(embedding, 2 * outputs if adaptive else outputs))
        self.out_layers = nn.Sequential(norm(outputs), nn.SiLU(), nn.Dropout(0.0), conv(dims, outputs, outputs, 3))
        self.skip_connection = nn.Identity() if inputs == outputs else conv(dims, inputs, outputs, 1)

    def forward(self, x, embedding):
        h = self.in_layers[2](self.resize(self.in_layers[1](self.in_layers[0](x))))
        e = self.emb_layers(embedding).reshape(len(x), -1, *(1,) * (x.ndim - 2))
        if self.adaptive:
            scale, shift = e.chunk(2, dim=1)
            h = self.out_layers[1:](self.out_layers[0](h) * (1 + scale) + shift)
        else:
            h = self.out_layers(h + e)
        return self.skip_connection(self.resize(x)) + h


class Attention(nn.Module):
    def __init__(self, channels, heads, together):
        super().__init__()
        self.heads, self.together = heads, together
        self.norm = norm(channels)
        self.qkv = nn.Conv1d(channels, 3 * channels, 1)
        self.proj_out = nn.Conv1d(channels, channels, 1)

    def forward(self, x, embedding):
        pixels = x.flatten(2)
        parts = self.qkv(self.norm(pixels))
        if self.together:
            q, k, v = (part.unflatten(1, (self.heads, -1)) for part in parts.chunk(3, dim=1))
        else:
            q, k, v = parts.unflatten(1, (self.heads, -1)).chunk(3, dim=2)
        weight = torch.einsum('bhcq,bhck->bhqk', q, k) / math.sqrt(q.shape[2])
        h = torch.einsum('bhqk,bhck->bhcq', weight.softmax(dim=-1), v).flatten(1, 2)
        return (pixels + self.proj_out(h)).reshape(x.shape)


class Halve(nn.Module):
    def __init__(self, dims, channels):
        super().__init__()
        self.op = conv(dims, channels, channels, 3, stride=plane(dims))

    def forward(self, x, embedding):
        return self.op(x)


class Double(nn.Module):
    def __init__(self, dims, channels):
        super().__init__()
        self.conv = conv(dims, channels, channels, 3)

    def forward(self, x, embedding):
        return self.conv(double(x))


class UNet(nn.Module):
    """`shrunk` are the factors of downsampling at which it attends, `heads` says how many for a width."""

    def __init__(self, dims, inputs, outputs, channels, times, blocks, shrunk, heads, together, adaptive, updown, classes):
        super().__init__()
        widths, wide, self.channels = [each * channels for each in times], 4 * channels, channels
        block = lambda inputs, outputs, resize=None: Residual(dims, inputs, outputs, wide, adaptive, resize)
        attention = lambda width, level: [Attention(width, heads(width), together)] if 2**level in shrunk else []
        self.time_embed = nn.Sequential(nn.Linear(channels, wide), nn.SiLU(), nn.Linear(wide, wide))
        self.label_emb = nn.Embedding(classes, wide) if classes else None
        kept, width = [widths[0]], widths[0]
        down, up = [[conv(dims, inputs, width, 3)]], []
        for level, own in enumerate(widths):
            for _ in range(blocks):
                down.append([block(width, own), *attention(own, level)])
                width = own
                kept.append(width)
            if level < len(widths) - 1:
                down.append([block(width, width, halve) if updown else Halve(dims, width)])
                kept.append(width)
        self.middle_block = nn.ModuleList([block(width, width), Attention(width, heads(width), together), block(width, width)])
        for level, own in reversed(list(enumerate(widths))):
            for n in range(blocks + 1):
                last = [block(own, own, double) if updown else Double(dims, own)] if level and n == blocks else []
                up.append([block(width + kept.pop(), own), *attention(own, level), *last])
                width = own
        self.input_blocks, self.output_blocks = (nn.ModuleList(map(nn.ModuleList, each)) for each in (down, up))
        self.out = nn.Sequential(norm(width), nn.SiLU(), conv(dims, width, outputs, 3))

    def forward(self, x, t, label=None):
        half = self.channels // 2
        angles = t[:, None] * torch.exp(-math.log(10000.0) * torch.arange(half) / half)[None]
        embedding = self.time_embed(torch.cat([angles.cos(), angles.sin()], dim=1))
        if self.label_emb is not None:
            embedding = embedding + self.label_emb(label)
        h = self.input_blocks[0][0](x)
        kept = [h]
        for stage in self.input_blocks[1:]:
            h = through(stage, h, embedding)
            kept.append(h)
        h = through(self.middle_block, h, embedding)
        for stage in self.output_blocks:
            h = through(stage, torch.cat([h, kept.pop()], dim=1), embedding)
        return self.out(h)


def through(layers, h, embedding):
    for layer in layers:
        h = layer(h, embedding)
    return h


def from_flags(**flags):
    """By the flags of its scripts, of which those that are used here."""
    size = flags.get('num_head_channels', -1)
    outputs = flags['out_channels'] * (2 if flags.get('learn_sigma') else 1)
    return UNet(
        flags.get('dims', 2),
        flags['in_channels'],
        outputs,
        flags['num_channels'],
        [int(each) for each in flags['channel_mult'].split(',')],
        flags['num_res_blocks'],
        {flags['image_size'] // int(each) for each in flags['attention_resolutions'].split(',')},
        lambda width: flags['num_heads'] if size == -1 else width // size,
        flags.get('use_new_attention_order', False),
        flags.get('use_scale_shift_norm', True),
        flags.get('resblock_updown', False),
        flags.get('num_classes', 1000) if flags.get('class_cond') else 0,
    )
