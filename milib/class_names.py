"""What classes are called, for whoever shows them."""

CIFAR10 = "airplane automobile bird cat deer dog frog horse ship truck"
CIFAR100 = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly
camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup
dinosaur dolphin elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower
leopard lion lizard lobster man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid
otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine possum rabbit raccoon ray
road rocket rose sea seal shark shrew skunk skyscraper snail snake spider squirrel streetcar
sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle
wardrobe whale willow_tree wolf woman worm
"""
NAMES = {
    "cifar10": CIFAR10.split(),
    "cifar100": [name.replace("_", " ") for name in CIFAR100.split()],
}
"""By data set, in the order of its labels; spaces stand as _ above."""


def class_names(data: str, classes: int) -> list[str]:
    """The names of a data set's classes, by number; the numbers themselves where it has no names.

    - data: a name of `data.SOURCES`.
    - classes: how many it has.

    Apart from `data`, since a name decides no record's numbers.
    """
    return NAMES.get(data) or [str(number) for number in range(classes)]
