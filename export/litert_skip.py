"""The operator of `skip` programs in LiteRT files: each call one custom operator, which the kernel's delegate claims.

The converter keeps a marked block as one STABLEHLO_COMPOSITE. Such a file runs without the delegate too, ten times
slower than with it, but tflite-runtime 2.14 does not load it at all. So every composite becomes a CUSTOM operator of
the same name and attributes, and its decomposition goes; without the delegate `masked` is what runs.
"""

import dataclasses

from .gated_conv2d import compute

NAME = "fedgate.gated_conv2d"


def call_composite(x, weight, scale, shift, level, in_open, gate_weight, gate_bias, kept, residual, options):
    """`compute` between the converter's marks; same arguments and results."""
    from litert_torch.hlfb import StableHLOCompositeBuilder

    tensors = (x, weight, scale, shift, level, in_open, gate_weight, gate_bias, kept, residual)
    attributes = {name: int(value) for name, value in dataclasses.asdict(options).items()}
    attributes |= {"masked_input": int(in_open is not None), "gated": int(gate_weight is not None)}
    attributes |= {"residual": int(residual is not None)}
    builder = StableHLOCompositeBuilder(NAME, attr=attributes)
    marked = iter(builder.mark_inputs(*(tensor for tensor in tensors if tensor is not None)))
    y, opened = compute(*(None if tensor is None else next(marked) for tensor in tensors), options)
    return (builder.mark_outputs(y), None) if opened is None else builder.mark_outputs(y, opened)


def composites_to_custom(blob):
    """The bytes of a LiteRT file with its composites as custom operators; a file without any comes back as it is."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(blob, 0)
    main, name = model.subgraphs[0], NAME.encode()
    composites = [op for op in main.operators if getattr(op.builtinOptions2, "name", None) == name]
    if not composites:
        return blob
    custom = schema.OperatorCodeT()
    custom.builtinCode = custom.deprecatedBuiltinCode = schema.BuiltinOperator.CUSTOM
    custom.customCode, custom.version = name, 1
    model.operatorCodes.append(custom)
    for op in composites:
        op.opcodeIndex = len(model.operatorCodes) - 1
        op.customOptions = op.builtinOptions2.compositeAttributes
        op.customOptionsFormat = schema.CustomOptionsFormat.FLEXBUFFERS
        op.builtinOptions2, op.builtinOptions2Type = None, schema.BuiltinOptions2.NONE
    drop_unused(model, main, schema)
    builder = flatbuffers.Builder(len(blob))
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def drop_unused(model, main, schema):
    """Remove the decompositions, and the buffers and operator codes that nothing uses any more."""
    del model.subgraphs[1:]
    holders = [*main.tensors, *(model.metadata or [])]
    buffers = sorted({0, *(holder.buffer for holder in holders)})  # buffer 0 stands for none
    for holder in holders:
        holder.buffer = buffers.index(holder.buffer)
    model.buffers = [model.buffers[i] for i in buffers]
    for buffer in model.buffers:
        buffer.__class__ = aligned_buffer(schema)
    codes = sorted({op.opcodeIndex for op in main.operators})
    for op in main.operators:
        op.opcodeIndex = codes.index(op.opcodeIndex)
    model.operatorCodes = [model.operatorCodes[i] for i in codes]


def aligned_buffer(schema):
    """A buffer that is written with its data on 16 bytes, as the schema wants; the object API leaves them on 4."""

    class AlignedBuffer(schema.BufferT):
        def Pack(self, builder):  # noqa: N802
            data = None
            if self.data is not None and len(self.data):
                raw = bytes(self.data)
                builder.StartVector(1, len(raw), 16)
                builder.head = builder.Head() - len(raw)
                builder.Bytes[builder.Head() : builder.Head() + len(raw)] = raw
                data = builder.EndVector()
            schema.BufferStart(builder)
            if data is not None:
                schema.BufferAddData(builder, data)
            return schema.BufferEnd(builder)

    return AlignedBuffer
