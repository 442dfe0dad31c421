"""What we read from the result pages: written by hand, shown below the sentences that are computed."""

READINGS = {
    "bccd": [
        "How we read it: the teacher is 13 points ahead of this student, and most methods hand over a part of that. ACAM-KD gains five points",
        "with every seed; logit KD does as much, and CWD and MGD, which are simpler and take less time a step, do more. Four fifths of ACAM-KD's",
        "gain come from plain MSE, too, when it follows ACAM-KD's strength over the run: the masks are worth a point on test at most (just above",
        "two standard errors), and nothing on val. FGD and PKD gain nothing that is beyond noise. Whether it matters where the masks look",
        "is for the ablations (frozen, shuffled) to say: they have not run yet.",
        "",
        "All arms have 40 epochs. The student alone has not ended learning by then (34.7 test mAP after a schedule of 20), so a part of every gain",
        "is speed; whether it would catch up in a longer schedule was not tried. Weights were chosen at 20 epochs, and one seed chose them.",
        "",
    ],
    "scratch": [
        "How we read it: nothing beats the student alone on test, and ACAM-KD is no exception. On val, which comes from train's own",
        "sequence, feature MSE and ACAM-KD are ahead of it: what they hand over is knowledge of that sequence, and the teacher, too, loses nine",
        "points from val to test. Val nevertheless chose the weights, and chose the smallest one tried for logit KD and ACAM-KD.",
        "Learnt masks do no better than frozen or shuffled ones, so whatever ACAM-KD does here is not due to where its masks look. The",
        "paper's letter diverged in two of three seeds. Bicyclists, poles and signs are hardly ever found by any student of this size in 30 epochs.",
        "",
    ],
    "competitors": [
        "How we read it: two seeds an arm are here (a third is missing), and from one seed to another the student alone moves by three points.",
        "So no method is told from another on test, nor from the student alone. MasKD, whose masks see nothing of the student, is ahead of it",
        "with both seeds; PKD has the lowest mean; CWD, MGD and ACAM-KD are within a point of each other. On val, from train's own",
        "sequence, PKD and MasKD are ahead, as MSE and ACAM-KD are in the first table: it says little of test.",
        "",
        "The teacher here is teacher 3. Best weights of CWD, MGD, MasKD and ACAM-KD are the smallest ones tried (ACAM-KD's grid had moved down once). Rate,",
        "ACAM-KD, CWD and MGD were tuned under bf16. Some runs shared the machine with others, so minutes are not compared.",
        "",
    ],
    "pretrained": [
        "How we read it: this student does not need this teacher. It starts from the same ImageNet weights, its rate was tuned where the",
        "teacher's was not, and alone it is ahead of the teacher on test with every seed. Feature MSE pulls it down towards a network that",
        "knows less. Logit KD is behind it and ACAM-KD level with it, both within noise: with three seeds neither is told from a small loss or",
        "gain. Before a teacher is paid for, train the student alone as well as it can be trained, and compare.",
        "",
        "The teacher here is teacher 2: the weights of the first were not kept, and the same spec gave another network on another",
        "machine. The stem and first stage of the student stay frozen. Feature MSE's best weight is at an end of its grid, which was not moved.",
        "",
    ],
}
