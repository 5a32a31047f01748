# ruff: noqa: E501
"""What implements each row of the founding inventory: data, and the page that is made of it.

A row is (number, what it is about, what implements it). What implements it is a list of "kind name", separated by
semicolons; or, behind "-", the reason why nothing does. Kinds: block, reference, space, strategy, rule, recipe (entries of
the catalogues), file (a path), test (a function of the file that FIGURES names, or "path::function").
"""

from __future__ import annotations

FIGURES = "tests/search_spaces/test_figures.py"

Row = tuple[str, str, str]

ROWS: tuple[Row, ...] = (
    # A: systems
    (
        "A1",
        "LeNet-5, with its sparse table and trained subsampling",
        "reference lenet5_original; block sparse_conv; block subsample; block radial_basis_classifier; test test_a1_h7_lenet_has_two_convolutions_and_a_sparse_table",
    ),
    ("A2", "LeNet-5 as CONV-POOL-CONV-POOL-FC-FC", "reference lenet5"),
    (
        "A3",
        "slip: LeNet-5 with five convolutions, AlexNet with seven layers",
        "- a slip of the text; H7 has what is true",
    ),
    (
        "A4",
        "Cireșan's perceptrons on a GPU",
        "reference ciresan_mlp_9; reference ciresan_mlp_5; reference ciresan_mlp_2",
    ),
    ("A5", "AlexNet, its order of layers", "reference alexnet_two_towers; reference alexnet"),
    (
        "A6",
        "AlexNet, the shapes of its layers",
        "reference alexnet_no_groups; test test_d11_a6_h18_the_first_layer_of_alexnet_needs_227_pixels_or_a_border",
    ),
    ("A7", "AlexNet in two towers", "reference alexnet_two_towers"),
    ("A8", "ZFNet; changing kernels, strides and widths", "reference zfnet; reference zfnet_wide; space neighbourhood"),
    (
        "A9",
        "OverFeat, with boxes",
        "reference overfeat_fast; reference overfeat_accurate; reference overfeat_fast_localisation; block box_regressor",
    ),
    (
        "A10",
        "VGG A to E",
        "reference vgg11; reference vgg13; reference vgg16_c; reference vgg16; reference vgg19; reference vgg19_bn",
    ),
    ("A11", "VGG's walk through its shapes", "reference vgg16; test test_a11_the_shapes_of_vgg16"),
    (
        "A12",
        "growing a network layer by layer",
        "file search_spaces/growth.py; test tests/search_spaces/test_growth.py::test_a_wider_network_computes_the_same",
    ),
    ("A13", "Network in Network", "reference nin_cifar; reference nin_imagenet; block mlpconv"),
    ("A14", "a 1x1 convolution behind a 3x3", "block mlpconv; space composed"),
    ("A15", "GoogLeNet", "reference googlenet; reference googlenet_bn; test test_d6_d15_d26_depths"),
    ("A16", "GoogLeNet's stem", "reference googlenet; test test_a16_the_stem_of_googlenet"),
    (
        "A17",
        "GoogLeNet's head and the heads of training",
        "reference googlenet; reference googlenet_auxiliary; block classifier; block auxiliary_classifier",
    ),
    ("A18", "BN-Inception", "reference bn_inception; reference inception_v2"),
    ("A19", "Inception V3", "reference inception_v3"),
    (
        "A20",
        "ResNet, from 18 to 1202 layers",
        "reference resnet34; reference resnet50; reference resnet101; reference resnet152; reference resnet50_paper; reference resnet1202_cifar; reference resnet110_cifar_b",
    ),
    (
        "A21",
        "pre-activation ResNet",
        "reference preact_resnet1001_cifar; reference preact_resnet200; block preact_block",
    ),
    ("A22", "wide ResNet", "reference wrn28_10_cifar; reference wrn50_2"),
    ("A23", "ResNeXt", "reference resnext50_32x4d; reference resnext29_8x64d_cifar"),
    (
        "A24",
        "stochastic depth",
        "reference stochastic_depth110_cifar; reference stochastic_depth1202_cifar; file search_spaces/blocks/drop_path.py",
    ),
    (
        "A25",
        "the ensemble that won in 2016",
        "file nas_service/search/finalists.py; test tests/workers/test_recipe_options.py::test_an_ensemble_is_the_mean_of_its_members_probabilities",
    ),
    ("A26", "SENet", "reference senet154; reference se_resnext50_32x4d; reference se_resnet152"),
    (
        "A27",
        "Inception V4 and Inception-ResNet",
        "reference inception_v4; reference inception_resnet_v1; reference inception_resnet_v2",
    ),
    ("A28", "FractalNet", "reference fractalnet_cifar; reference fractalnet_40_cifar; block fractal_block"),
    ("A29", "DenseNet", "reference densenet121; reference densenet_bc_100_12_cifar; reference densenet_40_12_cifar"),
    (
        "A30",
        "SqueezeNet",
        "reference squeezenet_1.0; reference squeezenet_1.1; reference squeezenet_1.0_complex_bypass",
    ),
    ("A31", "ENet", "reference enet; reference enet_camvid; reference enet_port; space segmentation"),
    ("A32", "Xception", "reference xception; reference xception41"),
    ("A33", "MobileNet V1", "reference mobilenet_v1; reference mobilenet_v1_0.25_128"),
    ("A34", "MobileNet V2", "reference mobilenet_v2; reference mobilenet_v2_1.4"),
    (
        "A35",
        "EfficientNet, both versions",
        "reference efficientnet_b0; reference efficientnet_b7; reference efficientnet_v2_s; reference efficientnet_v2_b3; space efficientnet; file search_spaces/scaling.py",
    ),
    (
        "A36",
        "architecture search by reinforcement; NASNet",
        "strategy rl; space nasnet; reference nasnet_a_large; reference nasnet_a_mobile",
    ),
    ("A37", "ShuffleNet and SegNet", "reference segnet; reference segnet_camvid"),
    (
        "A38",
        "the networks to know first",
        "reference resnet50; reference se_resnet50; reference lenet5; reference googlenet; reference vgg16; reference nin_imagenet; file nas_service/search/request.py",
    ),
    # B: blocks
    ("B1", "convolution with shared weights", "block conv_norm_act"),
    ("B2", "average, max and overlapping pooling", "block pool"),
    ("B3", "local response normalisation", "block local_response_norm"),
    (
        "B4",
        "ReLU, tanh, sigmoid, ELU",
        "block norm_act; test tests/search_spaces/test_blocks.py::test_every_norm_goes_with_every_activation",
    ),
    ("B5", "dropout", "block dropout"),
    (
        "B6",
        "what stacked 3x3 convolutions see",
        "test test_d10_and_b6_three_3x3_see_what_a_7x7_sees_with_fewer_weights; file search_spaces/cost.py",
    ),
    ("B7", "1x1 convolution", "block conv_norm_act"),
    ("B8", "mlpconv", "block mlpconv"),
    ("B9", "naive Inception", "block naive_inception"),
    ("B10", "Inception with reductions", "block inception_block"),
    (
        "B11",
        "the pooling branch makes naive Inception grow",
        "test test_d4_and_b11_naive_inception_grows_and_costs_854_million",
    ),
    ("B12", "bottleneck", "block bottleneck_block"),
    ("B13", "batch normalisation", "block norm_act"),
    ("B14", "two 3x3 for a 5x5", "block inception_a; block inception_block"),
    (
        "B15",
        "1xn and nx1 for n x n",
        "block flattened_conv; block inception_b; test tests/search_spaces/test_blocks.py::test_a_flattened_convolution_of_an_outer_product_is_the_square_one",
    ),
    (
        "B16",
        "strided convolution beside pooling",
        "block inception_reduction; block flattened_reduction; block inception_resnet_reduction",
    ),
    ("B17", "residual block", "block basic_block"),
    (
        "B18",
        "shortcuts that change channels, options A and B",
        "block basic_block; reference resnet20_cifar; reference resnet20_cifar_b",
    ),
    ("B19", "half the size, twice the filters", "rule pyramid; space residual"),
    ("B20", "bypass two layers", "rule two_layers_per_shortcut"),
    ("B21", "global average pooling as a head", "block classifier"),
    (
        "B22",
        "auxiliary heads",
        "block auxiliary_classifier; reference googlenet_auxiliary; file search_spaces/auxiliary.py",
    ),
    ("B23", "pre-activation block", "block preact_block; block preact_bottleneck"),
    ("B24", "wide block", "block preact_block; reference wrn40_4_cifar"),
    ("B25", "aggregated block", "block bottleneck_block; test test_e37_groups_are_paths_side_by_side"),
    (
        "B26",
        "layers dropped, the identity stays",
        "block basic_block; test tests/search_spaces/test_blocks.py::test_stochastic_depth_leaves_the_shortcut",
    ),
    (
        "B27",
        "squeeze-and-excitation",
        "block basic_block; test tests/search_spaces/test_blocks.py::test_every_residual_block_can_squeeze",
    ),
    (
        "B28",
        "fractal block with drop-path",
        "block fractal_block; test tests/search_spaces/test_blocks.py::test_global_drop_path_is_one_column; test tests/search_spaces/test_blocks.py::test_local_drop_path_keeps_at_least_one_input_of_a_join",
    ),
    ("B29", "dense block", "block dense_block; block dense_transition"),
    ("B30", "Fire module", "block fire"),
    ("B31", "Xception module", "block xception_block"),
    ("B32", "depthwise and pointwise convolution", "block depthwise_separable"),
    ("B33", "inverted residual", "block inverted_residual; block fused_inverted_residual"),
    ("B34", "Inception-ResNet modules", "block inception_resnet_a; block inception_resnet_b; block inception_resnet_c"),
    (
        "B35",
        "encoder and decoder",
        "block enet_bottleneck; block enet_downsampling; block enet_upsampling; block segmentation_head; space segmentation",
    ),
    ("B36", "learned colours", "block colour_transform"),
    (
        "B37",
        "sum of average and max pooling",
        "block pool; test tests/search_spaces/test_blocks.py::test_a_sum_pool_is_maximum_and_mean",
    ),
    (
        "B38",
        "linear layers as convolutions, averaged",
        "block convolutional_classifier; test test_b38_c14_linear_layers_are_convolutions_that_slide",
    ),
    ("B39", "flatten and dense layers", "block flatten_dense"),
    (
        "B40",
        "a residual network as a recurrent one",
        "block recurrent_stage; test test_b40_a_tied_stage_costs_parameters_once_and_products_every_step",
    ),
    ("B41", "stages of one resolution", "rule homogeneous_stages; space composed"),
    # C: recipes
    ("C1", "AlexNet's recipe", "recipe alexnet"),
    ("C2", "two GTX 580", "- history of hardware"),
    ("C3", "VGG's recipe", "recipe vgg"),
    ("C4", "GoogLeNet's auxiliary losses", "recipe googlenet; block auxiliary_classifier"),
    ("C5", "ResNet's recipe", "recipe resnet"),
    ("C6", "batch normalisation takes offsets away", "block norm_act"),
    (
        "C7",
        "stochastic depth in training",
        "reference stochastic_depth110_cifar; test tests/search_spaces/test_oracles.py::test_stochastic_depth_keeps_the_expected_number_of_blocks",
    ),
    ("C8", "paths dropped in training", "block fractal_block"),
    ("C9", "ELU without batch norm, or ReLU with it", "block conv_norm_act"),
    ("C10", "linear decay of the learning rate", "file workers/recipe.py"),
    ("C11", "learning rate in proportion to the batch", "file workers/recipe.py"),
    ("C12", "sum of average and max pooling", "block pool"),
    ("C13", "learned colours", "block colour_transform"),
    (
        "C14",
        "linear layers as convolutions",
        "block convolutional_classifier; test test_b38_c14_linear_layers_are_convolutions_that_slide",
    ),
    ("C15", "more data only before the plateau", "- advice to whoever collects data"),
    ("C16", "less stride instead of larger images", "space neighbourhood; file search_spaces/fitting.py"),
    ("C17", "tuned networks are changed with care", "space neighbourhood"),
    ("C18", "against vanishing gradients", "test test_e31_shortcuts_carry_the_gradient_to_the_first_layer"),
    ("C19", "compound scaling in two steps", "space efficientnet; file examples/compound_scaling.py"),
    ("C20", "cells of small data for large data", "file examples/cell_transfer.py; file search_spaces/scaling.py"),
    ("C21", "features for other tasks", "- weights of large data sets are not part of this project"),
    (
        "C22",
        "half precision storage",
        "file nas_service/export/package.py; test test_d17_enet_in_half_precision_is_0_7_megabytes",
    ),
    # D: figures
    ("D1", "what a bottleneck saves", "test test_d1_and_h6_a_bottleneck_saves_a_factor_of_8_47"),
    ("D2", "a quarter of the width inside", "test test_d2_bottlenecks_are_a_quarter_as_wide"),
    (
        "D3",
        "half a millisecond for a layer",
        "- an illustration; latency is measured (file workers/latency.py) and can be bounded",
    ),
    (
        "D4",
        "854 million products in naive Inception",
        "test test_d4_and_b11_naive_inception_grows_and_costs_854_million",
    ),
    ("D5", "271 million with reductions", "test test_d5_and_h2_reductions_bring_it_to_271_million"),
    ("D6", "22 layers of GoogLeNet", "test test_d6_d15_d26_depths"),
    ("D7", "parameters of GoogLeNet and AlexNet", "test test_d7_h5_googlenet_has_seven_million_parameters"),
    ("D8", "VGG-16's parameters are in its head", "test test_d8_most_of_vgg16_is_in_its_head"),
    ("D9", "VGG-16's activations", "test tests/search_spaces/oracle_tables.py::vgg16_activations"),
    ("D10", "nine weights and forty-nine", "test test_d10_and_b6_three_3x3_see_what_a_7x7_sees_with_fewer_weights"),
    ("D11", "AlexNet's first layer", "test test_d11_a6_h18_the_first_layer_of_alexnet_needs_227_pixels_or_a_border"),
    ("D12", "errors of AlexNet and ZFNet", "- accuracies on ImageNet are never asserted"),
    ("D13", "error of ResNet-152's ensemble", "- accuracies on ImageNet are never asserted"),
    (
        "D14",
        "a deep plain network trains worse",
        "test test_d14_a_plain_network_of_56_layers_trains_worse_than_one_of_20_and_a_residual_one_does_not",
    ),
    ("D15", "152 and 1202 layers", "test test_d6_d15_d26_depths; reference resnet1202_cifar"),
    ("D16", "effective depth of a ResNet", "test test_d16_e36_the_paths_of_a_resnet_are_short"),
    ("D17", "ENet in 0.7 megabytes", "test test_d17_enet_in_half_precision_is_0_7_megabytes"),
    ("D18", "SqueezeNet against AlexNet", "test test_d18_squeezenet_has_a_fiftieth_of_alexnet"),
    ("D19", "36 convolutions in Xception", "test test_d19_xception_has_36_convolution_stages"),
    ("D20", "half the parameters for faces", "- an illustration without a network"),
    ("D21", "seconds for an image on a Titan Xp", "test test_d21_h10_products_are_not_seconds"),
    ("D22", "billions of products taken for parameters", "test test_d22_h4_the_billions_are_products"),
    ("D23", "hardware of the time", "- history of hardware"),
    ("D24", "224 pixels, 1000 labels", "test test_d24_the_default_is_224_pixels_and_1000_classes"),
    (
        "D25",
        "WRN-50 before ResNet-152",
        "- accuracies on ImageNet are never asserted; both are references: wrn50_2, resnet152",
    ),
    ("D26", "depth over the years", "test test_d6_d15_d26_depths"),
    # E: design rules
    ("E1", "convolution, pooling, nonlinearity", "reference lenet5; block conv_norm_act"),
    ("E2", "no perceptron on raw pixels", "rule no_raw_pixel_mlp"),
    ("E3", "sparse connections", "block sparse_conv; test test_e3_a_sparse_table_saves_what_it_leaves_out"),
    ("E4", "stacks of 3x3", "rule small_kernels; test test_e4_e5_e22_cheaper_ways_to_the_same_shape"),
    ("E5", "fewer channels before expensive convolutions", "rule reduced_before_expensive"),
    ("E6", "more maps before each pooling", "rule width_before_pooling"),
    ("E7", "width grows with depth", "rule monotone_width"),
    ("E8", "width before the next layer", "rule width_before_pooling"),
    ("E9", "only 3x3 where larger ones factorise", "rule small_kernels"),
    ("E10", "pooling beside computing", "block inception_reduction"),
    ("E11", "bypass two layers, not one", "rule two_layers_per_shortcut"),
    ("E12", "pyramid", "rule pyramid"),
    ("E13", "max pooling to make maps smaller", "rule max_pooling"),
    ("E14", "homogeneous blocks between poolings", "rule homogeneous_stages"),
    ("E15", "several paths in a layer", "space inception; block inception_block"),
    ("E16", "pooling keeps channels", "test test_e16_pooling_keeps_channels"),
    (
        "E17",
        "residual blocks keep channels",
        "test test_e17_residual_blocks_keep_channels_unless_their_shortcut_changes_them",
    ),
    ("E18", "width is cheaper than depth", "space residual; file nas_service/search/ranking.py"),
    (
        "E19",
        "deeper is never worse",
        "file search_spaces/growth.py; test tests/search_spaces/test_growth.py::test_a_deeper_network_computes_the_same",
    ),
    ("E20", "fractals without residuals", "block fractal_block"),
    ("E21", "features used again", "block dense_block"),
    (
        "E22",
        "depthwise with pointwise",
        "rule depthwise_with_pointwise; test test_e4_e5_e22_cheaper_ways_to_the_same_shape",
    ),
    ("E23", "expand to compute, compress to carry", "block inverted_residual; space mbconv"),
    ("E24", "depth, width and resolution together", "space efficientnet; file search_spaces/scaling.py"),
    ("E25", "what depth, width and resolution are", "file search_spaces/cost.py; file search_spaces/scaling.py"),
    ("E26", "ResNet is easy to change", "space residual; space neighbourhood"),
    ("E27", "where the field goes", "- an outlook"),
    ("E28", "fewer products and less memory", "file nas_service/search/request.py"),
    ("E29", "not too many features in many layers", "rule memory_budget; file search_spaces/cost.py"),
    ("E30", "let data decide", "file nas_service/search/driver.py"),
    ("E31", "gradients vanish, shortcuts carry them", "test test_e31_shortcuts_carry_the_gradient_to_the_first_layer"),
    (
        "E32",
        "naive modules run out of memory",
        "rule memory_budget; test test_d4_and_b11_naive_inception_grows_and_costs_854_million",
    ),
    (
        "E33",
        "an average is a cheap head",
        "rule light_head; test test_e33_a_mean_is_a_cheaper_head_than_three_linear_layers",
    ),
    ("E34", "plain and complex stems", "space composed; reference inception_v4"),
    ("E35", "a branch of zeros is the identity", "test test_e35_a_branch_of_zeros_is_the_identity"),
    ("E36", "a residual network is many paths", "test test_d16_e36_the_paths_of_a_resnet_are_short"),
    ("E37", "groups are paths side by side", "test test_e37_groups_are_paths_side_by_side"),
    ("E38", "memory limits early networks", "rule memory_budget; rule small_stem"),
    # F: search
    ("F1", "a controller that writes an architecture", "strategy rl; space chain"),
    ("F2", "sample, train, reward, update", "strategy rl; file nas_service/strategies/rl.py"),
    ("F3", "cells that are stacked", "space nasnet; file examples/cell_transfer.py"),
    ("F4", "search small, scale up", "space efficientnet; file examples/compound_scaling.py"),
    ("F5", "several objectives", "file nas_service/search/request.py; strategy tpe"),
    ("F6", "latency is measured", "file workers/latency.py; test test_d21_h10_products_are_not_seconds"),
    ("F7", "learning modules", "- named only"),
    ("F8", "families that are ready to use", "reference vgg16; reference googlenet; reference resnet50"),
    # G: figures of the service
    ("G1", "bubbles: accuracy, products, parameters", "file nas_service/web/figures.py"),
    (
        "G2",
        "bars: accuracy by network",
        "test tests/nas_service/search/test_figures.py::test_bars_are_the_best_networks",
    ),
    ("G3", "bubbles: memory", "test tests/nas_service/search/test_figures.py::test_the_area_of_a_bubble_is_a_cost"),
    ("G4", "forward time by batch size; power is not measured", "file workers/latency.py"),
    (
        "G5",
        "accuracy for each parameter",
        "test tests/nas_service/search/test_figures.py::test_density_is_the_score_per_million_parameters",
    ),
    ("G6", "size against accuracy", "file nas_service/web/figures.py"),
    ("G7", "more products are not more time", "test test_d21_h10_products_are_not_seconds"),
    ("G8", "winners by year", "- accuracies on ImageNet are never asserted"),
    ("G9", "parameters and memory of each layer", "file docs/references/vgg16.md; file search_spaces/profile.py"),
    (
        "G10",
        "quality of a segmentation",
        "test tests/workers/test_learning_tasks.py::test_mean_iou_is_that_of_the_definition_and_leaves_unknown_pixels_out",
    ),
    ("G11", "papers to follow", "file docs/references/README.md"),
    # H: slips
    (
        "H1",
        "weight decay of ResNet",
        "recipe resnet; test test_h1_the_recipe_of_resnet_has_the_weight_decay_of_the_paper",
    ),
    ("H2", "products of Inception with reductions", "test test_d5_and_h2_reductions_bring_it_to_271_million"),
    ("H3", "activations of VGG-16", "test tests/search_spaces/oracle_tables.py::vgg16_activations"),
    ("H4", "products taken for parameters", "test test_d22_h4_the_billions_are_products"),
    ("H5", "parameters of GoogLeNet", "test test_d7_h5_googlenet_has_seven_million_parameters"),
    ("H6", "8.47, not 10", "test test_d1_and_h6_a_bottleneck_saves_a_factor_of_8_47"),
    (
        "H7",
        "layers of LeNet-5 and AlexNet",
        "test test_a1_h7_lenet_has_two_convolutions_and_a_sparse_table; test test_d6_d15_d26_depths",
    ),
    ("H8", "Cireșan's net is a perceptron", "test test_h8_ciresans_nets_are_perceptrons"),
    ("H9", "Inception V3 is not only 3x3", "test test_h9_inception_v3_is_not_only_3x3"),
    ("H10", "MobileNet's seconds", "test test_d21_h10_products_are_not_seconds"),
    ("H11", "ELU without batch norm, or ReLU with it", "block conv_norm_act"),
    (
        "H12",
        "released coefficients are rounded",
        "test test_h12_h13_released_efficientnets_are_rounded_and_have_squeezes",
    ),
    (
        "H13",
        "EfficientNet is not MobileNet V2",
        "test test_h12_h13_released_efficientnets_are_rounded_and_have_squeezes",
    ),
    ("H14", "two convolutions in a residual block", "test test_h14_b17_a_residual_block_has_two_convolutions"),
    ("H15", "half a megabyte of SqueezeNet", "test test_d18_squeezenet_has_a_fiftieth_of_alexnet"),
    ("H16", "a stem of stride 2 and a pool of stride 2", "reference resnet50; test test_a16_the_stem_of_googlenet"),
    ("H17", "SENet on ResNeXt-152", "reference senet154; reference resnext152_64x4d"),
    ("H18", "AlexNet needs 227 pixels", "test test_d11_a6_h18_the_first_layer_of_alexnet_needs_227_pixels_or_a_border"),
)


def parts(row: Row) -> list[tuple[str, str]]:
    """(kind, name) of what implements a row; nothing where a reason stands in its place."""
    if row[2].startswith("-"):
        return []
    found = [tuple(part.strip().split(" ", 1)) for part in row[2].split(";")]
    return [(kind, name) for kind, name in found]


def coverage_page() -> str:
    """The table as a page."""
    done = sum(bool(parts(row)) for row in ROWS)
    lines = [
        "# Coverage of the founding inventory",
        "",
        f"Made by `scripts/docs.py` from `scripts/coverage.py`. {done} of {len(ROWS)} rows are implemented or checked by",
        "what the last column names; of the others it says why not.",
        "",
        "| row | what it is about | where |",
        "| --- | --- | --- |",
    ]
    for number, what, where in ROWS:
        shown = ", ".join(_shown(kind, name) for kind, name in parts((number, what, where))) or where[1:].strip()
        lines.append(f"| {number} | {what} | {shown} |")
    return "\n".join(lines) + "\n"


def _shown(kind: str, name: str) -> str:
    if kind in ("block", "reference", "space"):
        return f"{kind} [{name}]({kind}s/{name}.md)"
    if kind == "file":
        return f"[{name}](../{name})"
    if kind == "test":
        path, _, function = name.rpartition("::")
        return f"[{function}](../{path or FIGURES})"
    return f"{kind} `{name}`"
